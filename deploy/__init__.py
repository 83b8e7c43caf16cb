"""Set-up of the environments, the demonstration supervisor and the images of the production shape.

``deploy.bootstrap`` runs on the system Python before anything is installed; everything else runs in ``.venv``.
"""
