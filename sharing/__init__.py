"""How data is seen outside: serving files, exchange deliveries, open data, static pages."""
