from .reading import StoredRun, find_runs

__all__ = ["StoredRun", "find_runs"]
