"""MetaWorld: fifty tasks of a Sawyer arm on a table, alone and in sets."""
