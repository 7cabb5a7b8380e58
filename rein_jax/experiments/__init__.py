"""The paper's rows as data, tables from finished runs, and grids of runs."""
