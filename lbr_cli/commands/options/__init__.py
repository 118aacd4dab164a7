"""The options of the commands, a module for each heading of --help, with the rules of each group."""
