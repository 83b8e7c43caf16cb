-- What each indicator means, as published with the data.
SELECT * FROM kpi_definitions
