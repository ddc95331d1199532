from mus.api.left_out import leave_out

# Before anything here imports FastAPI or uvicorn.
leave_out()
