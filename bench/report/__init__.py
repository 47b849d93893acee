"""One HTML file about a results folder: what is in it (content), how it is drawn (charts) and written (page)."""
