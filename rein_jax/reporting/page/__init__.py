"""The parts of report.html: style, script, charts, tables and image panels, all as plain text without dependencies."""
