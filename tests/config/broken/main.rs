// A file where a directory is meant.
