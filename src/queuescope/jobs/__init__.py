"""The job history: one row for each job, its search, failures and export."""
