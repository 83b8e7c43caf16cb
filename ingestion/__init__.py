"""How data arrives: connectors fetch, the archive keeps, decoders read, rules split, ODS tables receive."""
