"""What `nldsl cost` finds out: a program is run as it is, on tensors without data, and every operator is counted."""
