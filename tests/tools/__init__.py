"""What the tests share: patience, real servers, a real browser, and the tools that they need."""
