"""SASL mechanisms, server side: one file each, one ``IMechanism`` each."""
