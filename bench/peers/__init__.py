"""What the results are compared with, on the same data in the same run. Each peer: build, replace, query."""
