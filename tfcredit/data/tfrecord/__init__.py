"""TFRecord files: listing, counting and reading them, their formats, damaged records."""
