from .comparing import compare

__all__ = ["compare"]
