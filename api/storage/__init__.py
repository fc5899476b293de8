"""Tables, migrations, the unit of work. Rows never leave this package."""
