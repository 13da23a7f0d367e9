"""The command `tfcredit evaluate`: accuracy of a classifier on a set of images."""
