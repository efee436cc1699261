"""Sends: what is checked, what is added, what is answered; and the short way of most of them."""
