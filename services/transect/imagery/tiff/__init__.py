"""TIFFs as GDAL reads them: header, bands, windows, and what no file may refer to."""
