"""Devices by the Container Device Interface: their names, their spec files, and what these ask for."""
