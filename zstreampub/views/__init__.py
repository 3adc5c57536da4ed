"""A log as a work queue, or as a table: for people who come from such. Each works on whatever a port gives it."""
