"""The report: tables, figures, conclusions, model cards, the HTML page."""
