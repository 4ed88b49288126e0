"""The API's routes, one file per resource. They hand values to the store and get values back."""
