"""Parts of pages and reports: tables, charts, dots, heat maps, pictures, texts."""
