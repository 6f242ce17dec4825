"""The commands of `nldsl`, one module each; each has its click command in `command`."""
