"""What a person can look at: a cluster while it is being scheduled, policies side by side, and past runs.

`python -m training.demo` serves the pages (`app`, `views/`) on the loopback interface. What they show is computed by
plain functions that know no browser: `live`, `cells`, `paired`, `past_runs`, `policies`, `figures`.
"""
