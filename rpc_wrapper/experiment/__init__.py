"""Run a matrix of clusters: every cell is started, measured and stopped, and becomes one row.

The words: an *experiment* is a YAML file; a *cell* is one combination of its axes; a *row* is what a cell measured, or
why it could not be. Rows are kept as they come, so a run that was interrupted goes on with the cells that are missing.

``spec``, ``cells``, ``row`` and ``report`` are values in, values out; ``run`` starts clusters, ``files`` reads and
writes, ``models`` makes the models, ``shipped`` holds the experiments that come with the package.
"""
