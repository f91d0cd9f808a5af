"""Time, tasks and admission: what a process needs to run."""
