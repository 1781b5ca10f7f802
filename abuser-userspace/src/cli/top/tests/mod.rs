//! The view without a terminal and without a daemon: what it shows, cell by cell, and what keys do.

mod keys;
mod scene;
mod screens;
