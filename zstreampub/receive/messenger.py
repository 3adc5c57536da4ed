"""stub"""
class Messenger: pass
