"""The comparison of the heads on FER2013."""
