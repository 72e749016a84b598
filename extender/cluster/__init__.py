"""What the cluster looks like right now.

Amounts (`requests`), rows (`state`), own choices (`assume`); what others did comes from the API server (`reflector`,
`watcher`) or a file (`file_source`) and is applied by `feed`.
"""
