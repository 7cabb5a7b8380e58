"""One file a data set: where to get it, its licence, layout, counts and label encodings."""
