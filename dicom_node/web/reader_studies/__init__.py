"""Reader studies: how they are made from a list, their statistics, and their exports."""
