"""From records of finished runs to tables, tests and figures; reads what runs stored, trains nothing."""
