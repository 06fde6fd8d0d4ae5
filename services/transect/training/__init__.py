"""An Ultralytics run, tracked, evaluated, packaged and registered."""
