"""Workers inside the loops of other libraries: one module for each, imported by its full name."""
