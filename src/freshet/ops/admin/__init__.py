"""The admin page: what all nodes hold and do, live, over a Freshet of its own."""
