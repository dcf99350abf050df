"""The medical leaderboard: result files and a snapshot of published figures in; tables, pictures and a web page out.

`medembed leaderboard build | renew | submit`. What is published by others comes along as a snapshot with its source, so that
everything builds without a network; what lies in folders of ours is put beside it.
"""
