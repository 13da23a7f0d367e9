"""Imported by the server that runs are forked from: TensorFlow, without its banners."""

import importlib

from tfcredit.startup import import_tensorflow

import_tensorflow()
importlib.import_module("tfcredit.training.processes")
