"""Workers inside other libraries' loops: import the module of the library in question."""
