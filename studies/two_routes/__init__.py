"""The claims of Kunin et al. 2020 tested again, each by one study at three scales."""
