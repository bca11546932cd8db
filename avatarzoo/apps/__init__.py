"""Commands that are more than training: each module has a main(argv)."""
