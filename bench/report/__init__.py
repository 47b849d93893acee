"""Facts as text and figures: terminal, markdown, LaTeX, CSV, JSON; ``html`` holds the pages."""
