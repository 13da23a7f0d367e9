"""The claims of Kunin et al. 2020 tested again, and some beyond them, each at three scales."""
