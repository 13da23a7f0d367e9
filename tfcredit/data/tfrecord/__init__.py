"""TFRecord files of labelled images, and batches out of them."""
