"""ImageNet as people have it: each layout's images in an index, and readers of their bytes."""
