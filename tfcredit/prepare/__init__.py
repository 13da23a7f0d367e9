"""Ready shards of the official archives of ILSVRC2012: the command `tfcredit prepare-imagenet`."""
