"""Networks: tensors in, tensors out, no state between calls. One file per tracker family, and what they share."""
