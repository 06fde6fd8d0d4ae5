"""TIFFs with GDAL: header, bands, windows, and protection from external references."""
