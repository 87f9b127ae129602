"""The demo's page, which Streamlit runs anew at every change of a widget.

Nothing but this `if`: multiprocessing runs the main module of its parent in every new process, and while
Streamlit runs, that is this file.
"""

if __name__ == "__main__":
    from pocketgenie.web_demo.pages import show

    show()
