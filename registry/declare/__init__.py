"""What is declared: stages, kinds, the tables of a file, cells of a matrix, references, faults."""
